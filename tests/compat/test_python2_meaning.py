"""What Python 3 reads too but understands otherwise: programs in Python 2 mean what they meant."""

import os
import subprocess
import sys

import pytest

MAIN = """
import sys, traceback
for name in sys.argv[1:]:
    print "#", name
    try:
        __import__(name)
    except Exception:
        traceback.print_exc()
    sys.stdout.flush()
"""

#: Programs, each with its output in Python 2.7.18.
PROGRAMS = {}

PROGRAMS["rounding"] = r"""
import math
from math import floor as down
print [round(x) for x in (2.5, -0.5, 0.49999999999999994, 7, 1e300)], round(25, -1), round(-0.4)
print round(0.125, 2), round(2.675, 2), round(1234.5678, -2), repr(round(5e-324, 400)), round(True)
print math.ceil(3.1) / 8, down(-2.5), math.floor(2.5), math.ceil(float("inf")), int(round(3.5))
print hash("text"), hash(""), hash(0.1), hash(-0.75), hash(u"a"), hash(-1)
print hash(2 ** 62), hash(1e300)
print oct(8), oct(0), oct(-8), eval(" 7 / 2"), eval("round(x)", {"x": .5})
exec "halves = 9 / 2; print halves,"
names = {"y": 3}
exec "y = y / 2" in names
exec "import math"
print halves, names["y"], eval("math.floor(2.5)"), eval(compile("7 / 2", "", "eval"))
with open("halves.txt", "w") as file:
    file.write("halves = 11 / 2\nprint halves")
execfile("halves.txt")
round = lambda x: "own"
print round(2.5), map(round, [1])
""", r"""
[3.0, -1.0, 0.0, 7.0, 1e+300] 30.0 -0.0
0.13 2.67 1200.0 5e-324 1.0
0.5 -3.0 2.0 inf 4
2314058222097390601 0 2576882278 -1610612736 12416037344 -2
4611686018427387904 8474648701417850880
010 0 -010 3 1.0
4 4 1 2.0 3
5
own ['own']
"""

PROGRAMS["drawing"] = r"""
import os, random
from random import randint
for seed in 1, -5, "text", "", u"a", 0.1:
    random.seed(seed)
    numbers = range(8)
    random.shuffle(numbers)
    print seed, randint(0, 99), random.randrange(3, 30, 4), random.randrange(5.0), numbers
    print random.choice("abcdef"), random.sample(xrange(10 ** 6), 3), random.sample(range(30), 7)
    print random.randrange(2 ** 53 + 1), random.randint(0, 9 ** 20), repr(random.random())
    print repr(random.gauss(0, 1)), repr(random.gammavariate(1, 2)), repr(random.paretovariate(3))
random.shuffle(numbers, lambda: 0.5)
own = random.Random("text")
class Middle(random.Random):
    def random(self):
        return 0.75
print numbers, own.randint(0, 99), Middle().randint(0, 9), Middle(1).choice("abcd")
if hasattr(os, "fork"):
    random.seed(1)
    if not os.fork():
        os._exit(random.randint(0, 99))
    print os.wait()[1] >> 8
""", r"""
1 78 3 0 [0, 2, 3, 6, 7, 4, 5, 1]
f [432767, 762280, 2106] [13, 20, 6, 25, 23, 0, 24]
165822422712862 9733044862419154823 0.22169166627303505
-1.0823080245960446 2.912708887254512 1.0914389087990732
-5 46 27 3 [1, 0, 3, 2, 6, 7, 5, 4]
f [113205, 469069, 246572] [16, 29, 0, 5, 7, 22, 18]
1295807941825367 11398726226450727658 0.6174525204661166
0.04169543600800784 0.2752974407390532 1.0814955108876114
text 42 19 3 [0, 4, 5, 1, 7, 3, 6, 2]
e [533846, 437828, 907675] [19, 26, 16, 8, 10, 14, 23]
8236437767260310 1056318376782445487 0.8200182737381801
-0.700218432840693 0.42486432102636545 2.1134894339200807
 30 15 2 [0, 3, 4, 7, 1, 2, 5, 6]
f [504686, 281837, 755804] [18, 7, 25, 26, 21, 22, 28]
1328427929321723 6091063652223914538 0.47214271545271336
0.8606160946297771 0.985686646205906 2.256898229352773
a 88 3 4 [5, 7, 1, 2, 0, 3, 4, 6]
d [450809, 895426, 55675] [0, 3, 19, 24, 17, 7, 8]
3328512886201176 4904253126131832157 0.36766207716833876
-1.2673982712923801 4.064324894121201 2.1102974707387845
0.1 31 19 0 [6, 2, 3, 5, 7, 0, 4, 1]
b [367733, 449300, 495043] [10, 29, 13, 27, 23, 0, 19]
8640455129887590 7706908878383425870 0.18271487024227617
1.6507552496568128 0.873164536472824 2.009750907533386
[6, 0, 2, 1, 3, 4, 5, 7] 32 7 d
13
"""

PROGRAMS["order"] = r"""
values = [None, -1, 2.5, True, "a", "", (), (1,), ("a", None), (None, "a"), [], [None], [[], 1], {}]
for a in values:
    print "".join(["<=>"[cmp(a, b) + 1] for b in values]),
    print sum([[a < b, a > b, a <= b, a >= b].count(True) for b in values])
print None < 0, 3 > None, None <= None, "2" > 10, [] < (), None == 0, 1 < 2 < 3
values.reverse()
print max(values), min(values), max(None, "a"), min(2, "a", None), max([1, 5, 3])
print sorted(values[:5], reverse=True), max([1, -2], key=lambda x: x * x), sorted("bca")
values.sort()
print values
values.sort(lambda a, b: cmp(b, a))
print values == sorted(values, reverse=True), sorted([3, 1, 2], None, lambda x: -x)
print sorted("bca", cmp=lambda a, b: cmp(b, a))
words = ["b", "A", "c"]
words.sort(None, str.lower, True)
print words
class Old:
    def __init__(self, x):
        self.x = x
    def __cmp__(self, other):
        return cmp(self.x, other.x)
    def __unicode__(self):
        return u"Old %d" % self.x
    def __div__(self, other):
        return "div"
    def __rdiv__(self, other):
        return "rdiv"
a, b = Old(1), Old(2)
print a < b, a >= b, a == Old(1), a != Old(1), max(a, b).x, [c.x for c in sorted([b, a])]
print unicode(a), a / 2, 2 / a, b in [Old(2)]
class New(object):
    def __eq__(self, other):
        return True
    def sort(self, x):
        return x
print len(set([New(), New()])), New() == New(), New() != New(), New().sort(3)
""", r"""
=<<<<<<<<<<<<< 28
>=<<<<<<<<<<<< 28
>>=><<<<<<<<<< 28
>><=<<<<<<<<<< 28
>>>>=><<<<>>>> 28
>>>><=<<<<>>>> 28
>>>>>>=<<<>>>> 28
>>>>>>>=<>>>>> 28
>>>>>>>>=>>>>> 28
>>>>>>><<=>>>> 28
>>>><<<<<<=<<> 28
>>>><<<<<<>=<> 28
>>>><<<<<<>>=> 28
>>>><<<<<<<<<= 28
True True True True True False True
('a', None) None a None 5
[(None, 'a'), [[], 1], [None], [], {}] -2 ['a', 'b', 'c']
[None, -1, True, 2.5, {}, [], [None], [[], 1], '', 'a', (), (None, 'a'), (1,), ('a', None)]
True [3, 2, 1]
['c', 'b', 'a']
['c', 'b', 'A']
True False True False 2 [1, 2]
Old 1 div rdiv True
2 True True 3
"""

PROGRAMS["sequences"] = r"""
import itertools, operator
from itertools import izip as zip2, imap, count
print map(None, [1, 2], [3]), map(None, "ab"), map(lambda a, b: (a, b), [1], [2, 3])
print filter(lambda c: c > "a", "abc"), filter(None, (0, 1)), filter(None, [0, 1])
f, g, h = map, zip, filter
print f(len, ["ab"]), g([1], [2]), h(None, [0, 3]), zip(), zip([1, 2], "ab")[1]
print map(lambda (a, b): a - b, zip([5], [3]))
print zip2([1], [2]).next(), list(itertools.islice(imap(abs, count(-2)), 3))
print list(itertools.izip("ab", count()))
print list(itertools.ifilter(None, [0, 1])), list(itertools.izip_longest([1], [2, 3]))
print reduce(operator.div, [17, 2, 2]), operator.div(7, 2.)
for key, value in zip({"a": 1}.keys(), {"a": 1}.values()):
    print key, value
""", r"""
[(1, 3), (2, None)] ['a', 'b'] [(1, 2), (None, 3)]
bc (1,) [1]
[2] [(1, 2)] [3] [] (2, 'b')
[2]
(1, 2) [2, 1, 0]
[('a', 0), ('b', 1)]
[1] [(1, 2), (None, 3)]
4 3.5
a 1
"""

PROGRAMS["texts"] = r"""# -*- coding: utf-8 -*-
import hashlib, os, string, sys
reload(sys)
sys.setdefaultencoding("utf-8")
print "abc".encode("hex"), "616263".decode("hex"), "YWJj\n".decode("base64"), "abc".encode("rot13"),
print "abc".encode("base64") == "YWJj\n", ord("ff".decode("hex"))
print "a'\n".encode("string_escape"), "\\n\\x41".decode("string-escape") == "\nA"
print "\\u0041".decode("unicode_escape"), u"\u0430".encode("unicode_escape")
print hashlib.md5("abc").hexdigest()
print hashlib.sha1(u"abc".encode("utf-8")).hexdigest()
print hashlib.md5("abc").digest().encode("hex"), len(os.urandom(4).encode("hex"))
print u"мир".encode("utf-8"), "мир".decode("utf-8").encode("utf-8"), u"é".encode("utf8") + "!"
print "\xc3\xa9".decode("utf-8") == u"é", "é".decode("utf-8") == u"é", "%s" % "a".encode("utf-8")
print unicode("abc", "utf-8"), unicode("é", encoding="utf-8").encode("utf-8"), str(u"abc")
for convert in (
        lambda: "é".decode("ascii"), lambda: u"é".encode("ascii"), lambda: "".encode("none")):
    try:
        convert()
    except UnicodeDecodeError:
        print "cannot decode",
    except UnicodeEncodeError:
        print "cannot encode",
    except LookupError, error:
        print error.message
print u"é!".encode("ascii", "ignore"), "é!".decode("ascii", "ignore"), len(u"a".encode("utf-16"))
print "a,b;c".translate(None, ",;"), "abc".translate(string.maketrans("ab", "xy"), "c")
print string.split("a b"), string.replace("abc", "b", "x"), string.join(["1", "2"], "-")
print string.atoi("12"), string.upper("a"), string.letters[:3], string.lowercase
class Own(object):
    message = "own"
    def encode(self, x, y=2):
        return x + y
print Own().encode(1), Own().encode(1, y=5), Own().message
""", r"""
616263 abc abc nop True 255
a\'\n True
A \u0430
900150983cd24fb0d6963f7d28e17f72
a9993e364706816aba3e25717850c26c9cd0d89d
900150983cd24fb0d6963f7d28e17f72 8
мир мир é!
True True a
abc é abc
cannot decode cannot encode unknown encoding: none
! ! 4
abc xy
['a', 'b'] axc 1-2
12 A abc abcdefghijklmnopqrstuvwxyz
3 6 own
"""

PROGRAMS["files"] = r"""
import cPickle, csv, json
f = open("a.csv", "wb")
rows = csv.writer(f, delimiter=";")
rows.writerow(["a b", 1, 2.5])
rows.writerow(["x\ny", None])
print >>f, "last"
f.close()
print open("a.csv", "rb").read() == "a b;1;2.5\r\n\"x\ny\";\r\nlast\n"
print open("a.csv", "rb").read(2) != "a ", open("a.csv", "rb").read(2) == "b "
print [row for row in csv.reader(open("a.csv", "rb"), delimiter=";")]
with open("b.csv", "wb") as f:
    rows = csv.DictWriter(f, ["a", "b"])
    rows.writeheader()
    rows.writerow({"a": 1, "b": 2})
print [sorted(row.items()) for row in csv.DictReader(open("b.csv", "rU"))]
with open("a.json", "wb") as f:
    json.dump({"a": 1}, f)
print json.load(open("a.json", "rb"))["a"], isinstance(f, file), file("a.json").read()
with open("a.pkl", "wb") as f:
    cPickle.dump([1, "a"], f, -1)
print cPickle.load(open("a.pkl", "rb"))
""", r"""
True
False False
[['a b', '1', '2.5'], ['x\ny', ''], ['last']]
[[('a', '1'), ('b', '2')]]
1 True {"a": 1}
[1, 'a']
"""

PROGRAMS["names"] = r"""
import exceptions, md5, new, operator, sets, sha, types
from types import *
from UserDict import UserDict
print isinstance([], types.ListType), isinstance("a", types.StringTypes)
print type("a") is types.StringType, types.NoneType is type(None)
print isinstance(3, types.InstanceType), issubclass(types.ClassType, object)
print isinstance({}, DictType), isinstance(len, BuiltinFunctionType), isinstance(2 ** 70, LongType)
print md5.new("a").hexdigest(), sorted(sets.Set([2, 1]))
print sha.new("a").hexdigest()
print isinstance(ValueError(), exceptions.StandardError), UserDict({"a": 1})["a"]
print len(buffer("abc")), len(buffer("abc", 1, 1)), [ask for ask in [raw_input]] != []
print new.instancemethod(len, [1, 2])(), operator.isCallable(len)
try:
    raise IOError(2, "gone")
except IOError, error:
    print repr(error.message), error.errno
try:
    raise ValueError, "told"
except ValueError, error:
    print error.message
""", r"""
True True
True True
False True
True True True
0cc175b9c0f1b6a831c399e269772661 [1, 2]
86f7e437faa5a7fce15d1ddcb9eaeaea377667b8
True 1
3 1 True
2 True
'' 2
told
"""


@pytest.fixture(scope="module")
def outputs(warm, tmp_path_factory):
    """What each of `PROGRAMS` prints, run in one process."""
    folder = tmp_path_factory.mktemp("programs")
    for name, (text, _) in PROGRAMS.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    done = run(folder, *PROGRAMS, environment=warm.environment, main=MAIN)
    parts = [part.partition("\n") for part in done.stdout.split("# ")[1:]]
    return {name: (output, done.stderr) for name, _, output in parts}


def run(folder, *arguments, environment, **files):
    """Run ``main.py`` in a folder, after writing these files there."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "theano_compat", "--python2", "main.py", *arguments], cwd=folder,
        env={**environment, "THEANO_FLAGS": "cxx="}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, encoding="utf-8")


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_mean_what_they_meant(outputs, name):
    output, errors = outputs[name]
    assert output == PROGRAMS[name][1].lstrip("\n"), errors


def test_nothing_warned(outputs):
    assert outputs["names"][1] == ""


def test_what_differs_is_said_with_its_line(warm, tmp_path):
    """Each line that ends in a comment differs, and its warning has the words of the comment."""
    program = """\
import random
text = "some letters"
characters = list(set(text))  # PYTHONHASHSEED=0
index = dict((c, i) for i, c in enumerate(frozenset(text)))  # PYTHONHASHSEED=0
numbers = list(set([1, 2])), sorted(set(text)), list(text)
squares = [i * i for i in range(3)]
for i in range(2):
    pass
print i
i = 5
squares = [i * i for i in range(3)]
print i  # list comprehension in line 11
def read(line):
    words = [word for word in line]
    word = words[0]
    more = [word for word in words]
    return word  # list comprehension in line 16
class Slices(list):  # Slices.__getslice__
    def __getslice__(self, i, j):
        return 0
random.seed((1, 2))  # other numbers
random.seed(u"\\xe9")  # other numbers
random.sample(set(range(9)), 3)  # another order
random.seed("ascii")
print read("ab")
"""
    done = run(tmp_path, environment={**warm.environment, "PYTHONHASHSEED": "random"},
               main=program)
    assert done.stdout == "1\n5\na\n", done.stderr
    lines = program.splitlines()
    expected = {number: line.partition("  # ")[2] for number, line in enumerate(lines, 1)
                if "  # " in line}
    warned = dict(line.removeprefix("main.py:").split(": UserWarning: Python 2 differs here: ")
                  for line in done.stderr.splitlines() if "UserWarning" in line)
    assert sorted(map(int, warned)) == sorted(expected)
    for number, words in expected.items():
        assert words in warned[str(number)]
    done = run(tmp_path, environment={**warm.environment, "PYTHONHASHSEED": "0"}, main=program)
    assert "PYTHONHASHSEED" not in done.stderr.replace(program, "")


def test_arrays_and_libraries_keep_their_meaning(warm, tmp_path):
    """Modules of Python 3 keep its functions; what NumPy and Theano define is not replaced."""
    library = tmp_path / "site-packages"
    library.mkdir()
    (library / "modern.py").write_text(
        "import math, random\n"
        "RESULTS = [round(2.5), math.floor(2.5), type(map(str, [])).__name__, 'a'.encode()]\n")
    done = run(tmp_path, environment={**warm.environment, "PYTHONPATH": os.pathsep.join(
        filter(None, [str(library), warm.environment.get("PYTHONPATH")]))}, main="""
import modern
import numpy as np, theano, theano.tensor as T
from numpy import *
print modern.RESULTS
a = np.array([3, 1, 2])
print np.floor(a / 2.), np.divide(7, 2), np.divide([7., 8.], 2), np.divide(a, 2)
print round(np.float32(2.5)), max(-5, 0), isinstance(True, bool)  # not those of NumPy 2
a.sort()
print a, max(a), min(np.float32(1), None), (a < 2).tolist(), np.float64(1) > None
x = T.vector()
f = theano.function([x], [T.floor(x), x > 1, T.lt(x, 2), abs(x).max()])
print [value.tolist() for value in f([0.5, 1.5])]
class Op(theano.Op):
    __props__ = ("n",)
    def __init__(self, n):
        self.n = n
print Op(1) == Op(1), len(set([Op(1), Op(1), Op(2)]))
np.random.seed(1)
print np.random.randint(0, 100, 3).tolist()
""")
    assert done.stdout == """\
[2, 2, 'map', b'a']
[1. 0. 1.] 3 [3.5 4. ] [1 0 1]
3.0 0 True
[1 2 3] 3 None [True, False, False] True
[[0.0, 1.0], [False, True], [True, True], 1.5]
True 2
[37, 12, 72]
""", done.stderr


def test_what_cannot_be_told_is_an_error(warm, tmp_path):
    """A text with characters from U+0080 to U+00FF may be bytes or a text of UTF-8."""
    done = run(tmp_path, environment=warm.environment, main="""
for use in (lambda: "\\xff\\xd8".encode("hex"), lambda: open("a", "wb").write("\\xff")):
    try:
        use()
    except UnicodeError, error:
        print "expected ASCII or bytes" in error.message
print u"\\u0430".encode("hex"), None < object(), {} < {1: 2}
""")
    assert done.stdout == "True\nTrue\n" and "TypeError: '<' not supported" in done.stderr
