"""Programs in Python 2 keep their meaning, even if Python 3 accepts them with another meaning."""

import os
import subprocess
import sys

import pytest

from theano_compat.old_programs import python2

pytestmark = pytest.mark.process

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
from math import floor
print [round(x) for x in (2.5, -0.5, 0.49999999999999994, 7, 1e300)], round(25, -1), round(-0.4)
print round(0.125, 2), round(2.675, 2), round(1234.5678, -2), repr(round(5e-324, 400)), round(True)
print math.ceil(3.1) / 8, floor(-2.5), math.floor(2.5), math.ceil(float("inf")), int(round(3.5))
round = lambda x: "own"
print round(2.5), map(round, [1])
""", r"""
[3.0, -1.0, 0.0, 7.0, 1e+300] 30.0 -0.0
0.13 2.67 1200.0 5e-324 1.0
0.5 -3.0 2.0 inf 4
own ['own']
"""

PROGRAMS["dividing"] = r"""
import numpy as np
calls = []
def called(value):
    calls.append(value)
    return value
values = [100, 50, 20]
values[called(1)] /= 7
called(values)[called(-1)] /= called(3)
w = np.arange(12).reshape(3, 4)
w[1:, called(2)] /= 2
w[...] /= 2
print values, w.tolist(), len(calls), [name for name in dir() if name.startswith("_old")]
class Vector:
    def __init__(self, *values): self.values = values
    def __div__(self, x): return Vector(*[value / x for value in self.values])
    def __idiv__(self, x):
        self.values = [value / x for value in self.values]
        return self
class Unknown:
    x = 9
    x /= 2
    def __div__(self, other): return NotImplemented
    __idiv__ = __div__
class Known:
    def __rdiv__(self, other): return "known"
v = same = Vector(7, 9)
v /= 2
print v is same, v.values, (v / 2).values, Unknown() / Known(), Unknown.x
unknown = Unknown()
unknown.x /= 2
unknown /= Known()
print unknown
print np.bool_(True) / 2, (np.array([True, False]) / 2).tolist()
""", r"""
[100, 7, 6] [[0, 0, 1, 1], [2, 2, 1, 3], [4, 4, 2, 5]] 5 []
True [3, 4] (1, 2) known 4
known
0 [0, 0]
"""

PROGRAMS["drawing"] = r"""
import random
from random import randint
for seed in 1, -5, "text", "", u"a", 0.1, 3.0:
    random.seed(seed)
    numbers = range(8)
    random.shuffle(numbers)
    print seed, randint(0, 99), random.randrange(3, 30, 4), numbers
    print random.choice("abcdef"), random.sample(xrange(10 ** 6), 3), random.sample(range(30), 7)
    print random.randrange(2 ** 53 + 1), random.randint(0, 9 ** 20), repr(random.random())
    print repr(random.gauss(0, 1)), repr(random.uniform(0, 5))
own = random.Random("text")
print own.randint(0, 99), own.choice("abcd")
""", r"""
1 78 3 [0, 2, 3, 6, 7, 4, 5, 1]
a [835765, 432767, 762280] [0, 12, 20, 6, 24, 22, 29]
165822422712862 9733044862419154823 0.22169166627303505
-1.0823080245960446 1.1654222512878631
-5 46 27 [1, 0, 3, 2, 6, 7, 5, 4]
d [900900, 113205, 469069] [7, 15, 16, 0, 5, 6, 21]
7015480179463493 1326906338224231255 0.13876741839890316
-0.38510398433117615 0.00887431101267322
text 42 19 [0, 4, 5, 1, 7, 3, 6, 2]
e [798312, 533846, 437828] [27, 19, 25, 15, 8, 9, 14]
8236437767260310 1056318376782445487 0.8200182737381801
-0.700218432840693 4.0430758524949555
 30 15 [0, 3, 4, 7, 1, 2, 5, 6]
d [908112, 504686, 281837] [22, 17, 7, 24, 25, 20, 21]
1779161469670617 1360307757430227195 0.8988382879679935
-0.4555595968345976 0.503506040341829
a 88 3 [5, 7, 1, 2, 0, 3, 4, 6]
f [548793, 450809, 895426] [1, 0, 3, 19, 23, 16, 6]
3328512886201176 4904253126131832157 0.36766207716833876
-1.2673982712923801 0.6552591094484977
0.1 31 19 [6, 2, 3, 5, 7, 0, 4, 1]
a [313004, 367733, 449300] [14, 10, 9, 13, 26, 22, 0]
8640455129887590 7706908878383425870 0.18271487024227617
1.6507552496568128 3.2312066528234755
3.0 83 7 [7, 4, 0, 5, 6, 2, 3, 1]
b [995644, 470263, 836461] [14, 18, 4, 17, 22, 13, 26]
2871490855066961 789318311829720426 0.3012676595157123
1.9652862522538705 2.363745443327334
32 d
"""

PROGRAMS["order"] = r"""
values = [None, -1, 2.5, True, "a", "", (), (1,), ("a", None), (None, "a"), [], [None], [[], 1], {}]
for a in values:
    print "".join(["<=>"[cmp(a, b) + 1] for b in values]),
    print sum([[a < b, a > b, a <= b, a >= b].count(True) for b in values])
print None < 0, 3 > None, None <= None, "2" > 10, [] < (), None == 0, 1 < 2 < 3
values.reverse()
print sorted(values[:5], reverse=True), sorted("bca")
values.sort()
print values
values.sort(lambda a, b: cmp(b, a))
print values == sorted(values, reverse=True), sorted([3, 1, 2], None, lambda x: -x)
print sorted("bca", cmp=lambda a, b: cmp(b, a))
words = ["b", "A", "c"]
words.sort(None, str.lower, True)
print words
class Own(object):
    def sort(self, x):
        return x
print Own().sort(3)
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
[(None, 'a'), [[], 1], [None], [], {}] ['a', 'b', 'c']
[None, -1, True, 2.5, {}, [], [None], [[], 1], '', 'a', (), (None, 'a'), (1,), ('a', None)]
True [3, 2, 1]
['c', 'b', 'a']
['c', 'b', 'A']
3
"""

PROGRAMS["sequences"] = r"""
from itertools import count, imap, izip
import itertools, operator
print map(lambda a, b: (a, b), [1, 2], [3, 4])[0], filter(None, [0, 1])[0], zip([1, 2], "ab")[1]
print map(lambda (a, b): a - b, zip([5], [3])), map(None, "ab")
print list(izip([1], [2])), list(itertools.islice(imap(abs, count(-2)), 3))
print list(itertools.izip("ab", count())), list(itertools.ifilter(None, [0, 1]))
print reduce(operator.div, [17, 2, 2]), operator.div(7, 2.)
""", r"""
(1, 3) 1 (2, 'b')
[2] ['a', 'b']
[(1, 2)] [2, 1, 0]
[('a', 0), ('b', 1)] [1]
4 3.5
"""

PROGRAMS["texts"] = r"""# -*- coding: utf-8 -*-
import os, string, sys
reload(sys)
sys.setdefaultencoding("utf-8")
print "abc".encode("hex"), "616263".decode("hex"), "YWJj\n".decode("base64"),
print "abc".encode("base64") == "YWJj\n", ord("ff".decode("hex")), len(os.urandom(4).encode("hex"))
print u"мир".encode("utf-8"), "мир".decode("utf-8").encode("utf-8"), u"é".encode("utf8") + "!"
print "\xc3\xa9".decode("utf-8") == u"é", "é".decode("utf-8") == u"é", "%s" % "a".encode("utf-8")
print unicode("abc", "utf-8"), unicode("é", "utf-8").encode("utf-8"), str(u"abc")
for convert in lambda: u"é".encode("ascii"), lambda: "".encode("none"):
    try:
        convert()
    except UnicodeEncodeError:
        print "cannot encode",
    except LookupError, error:
        print error
print u"é!".encode("ascii", "ignore"), len(u"a".encode("utf-16"))
print "abc".translate(string.maketrans("ab", "xy"))
print "{:8}|{x:<6}|{:>5}|{:.2f}".format((1, 2), None, 2.5, x=[]), format({}, "4") + "|"
for convert in lambda: "{:d}".format([1]), lambda: "{:d} {}".format(1), lambda: format(None, "f"):
    try:
        convert()
    except (IndexError, ValueError), error:
        print type(error).__name__,
print "{:08.3f} {!r} {0}".replace("{0}", "{}").format(1.5, "a", u"b")
print string.split("a b"), string.replace("abc", "b", "x"), string.join(["1", "2"], "-")
print string.atoi("12"), string.upper("a"), string.letters[:3].lower(), string.lowercase
class Own(object):
    def encode(self, x, y=2):
        return x + y
print Own().encode(1), Own().encode(1, y=5)
""", r"""
616263 abc abc True 255 8
мир мир é!
True True a
abc é abc
cannot encode unknown encoding: none
! 4
xyc
(1, 2)  |[]    | None|2.50 {}  |
ValueError IndexError ValueError 0001.500 'a' b
['a', 'b'] axc 1-2
12 A abc abcdefghijklmnopqrstuvwxyz
3 6
"""

PROGRAMS["files"] = r"""
import cPickle, csv, io, json, os
import numpy as np
f = open("a.csv", "wb")
rows = csv.writer(f, delimiter=";")
rows.writerow(["a b", 1, 2.5])
rows.writerow(["x\ny", None])
print >>f, "last"
f.close()
print os.path.getsize("a.csv")
print [row for row in csv.reader(open("a.csv", "rb"), delimiter=";")]
with open("b.csv", "wb") as f:
    rows = csv.DictWriter(f, ["a", "b"])
    rows.writeheader()
    rows.writerow({"a": 1, "b": 2})
print [sorted(row.items()) for row in csv.DictReader(open("b.csv", "rU"))]
with open("a.json", "wb") as f:
    json.dump({"a": 1}, f)
print json.load(open("a.json", "rb"))["a"], file("a.json").read()
with open("a.pkl", "wb") as f:
    cPickle.dump([1, "a"], f, -1)
print cPickle.load(open("a.pkl", "rb"))
with open("a.npz", "w") as f:
    np.savez(f, a=np.arange(200))
with open("a.npz") as f:
    print np.load(f)["a"].sum()
with io.open("a.txt", "w", encoding="utf-8-sig") as f:
    f.write(u"\u043c")
print repr(open("a.txt").read().decode("utf-8-sig")) == repr(u"\u043c")
""", r"""
24
[['a b', '1', '2.5'], ['x\ny', ''], ['last']]
[[('a', '1'), ('b', '2')]]
1 {"a": 1}
[1, 'a']
19900
True
"""

PROGRAMS["names"] = r"""
import types
from types import *
print isinstance([], types.ListType), isinstance("a", types.StringTypes)
print type("a") is types.StringType, types.NoneType is type(None), isinstance(3, types.InstanceType)
print isinstance({}, DictType), isinstance(len, BuiltinFunctionType), isinstance(2 ** 70, LongType)
print len(buffer("abc")), [ask for ask in [raw_input]] != []
""", r"""
True True
True True False
True True True
3 True
"""

PROGRAMS["own_names"] = r"""
import sys
def where(lat, long):
    return {"lat": lat, "long": long}
print sorted(where(1.5, long=2.5).items()), isinstance(long(3), long)
long = 3.25
print long, "%s" % long
def filter(xs, k): return tuple(x * k for x in xs)
def map(rows): return "%d rows" % len(rows)
def zip(*names): return ".".join(names)
def range(lo, hi, n): return (lo, hi, n)
def apply(image, kernel): return image * kernel
def input(shape): return shape
from operator import add as reduce
print filter([1, 2], 3), map([1]), zip("a", "b"), range(0, 1., 5), apply(3, 4), input(5)
print reduce(1, 2)
class Layer(object):
    def keys(self): return "k"
    def items(self, n=1): return n
    def iteritems(self): return "own"
    def has_key(self, key): return "has " + key
    def map(self, x): return x
layer = Layer()
class Node:
    def __init__(self, next=None): self.next = next
node, n = Node(Node()), 0
while node:
    node = node.next
    n += 1
class Iterator:
    n = 0
    def __iter__(self): return self
    def next(self, step=1):
        self.n += step
        if self.n > 4: raise StopIteration
        return self.n
print n, list(Iterator()), Iterator().next(step=2), iter([5]).next(), [f() for f in [iter([1, 2]).next]]
print layer.keys(), layer.items(n=3), layer.iteritems(), layer.has_key("k"), layer.map(2)
""", r"""
[('lat', 1.5), ('long', 2.5)] True
3.25 3.25
(3, 6) 1 rows a.b (0, 1.0, 5) 12 5
3
2 [1, 2, 3, 4] 2 5 [1]
k 3 own has k 2
"""

PROGRAMS["lists"] = r"""
import itertools
from itertools import izip as zip2, imap, count
def load(n):
    print "load", n,
    return n * n
for x in map(load, [1, 2]):
    print "got", x
todo = [1, 2, 3, 4, 5, 6]
for k in filter(lambda v: v % 2 or v > 3, todo):
    todo.remove(k)
queue = [1, 2, 3]
for a, b in zip(queue, [10, 20, 30, 40, 50]):
    queue.append(a + b)
print todo, queue
print any(map(load, [0, 1, 2]))
print map(None, [1, 2], "a"), map(None, [1]), map(lambda a, b: [a, b], [1, 2], [3]), zip()
print filter(None, (0, 1)), filter(str.isdigit, "a1b2"), range(3)[::-1], xrange(3)[1]
print itertools.izip("ab", count()).next(), list(zip2("ab", count())), imap(abs, count()).next()
print list(itertools.izip_longest("a", "bc")), list(itertools.ifilter(None, [0, 1]))
d = {"a": 1}
for key in d.keys():
    del d[key]
d.update(b=2)
print d, d.keys(), d.values() + [3], d.items(), d.iteritems().next(), list(d.itervalues())
print d.has_key("b"), not d.has_key("c"), dict.keys(d), len(d.viewkeys()), sorted(d.iterkeys())
print reduce(lambda a, b: a / b, [100, 7, 2]), apply(max, [1, 3]), 10L / 4
def flat(x):
    return sum(map(flat, x), []) if hasattr(x, "__iter__") else [x]
print flat(["abc", ["d", ("e", 1)]]), hasattr("", "join"), list(iter([3, ""].pop, ""))
print hasattr({}, "iteritems"), hasattr([], "next"), hasattr(iter([]), "next"), hasattr([], "keys")
with open("parts", "wb") as f:
    f.write("hello 12")
f = open("parts", "rb")
print len(list(iter(lambda: f.read(3), "")))
open("half.py", "w").write("half = 7 / 2; print map(abs, [half]), __name__ == 'other'")
def scope():
    execfile("half.py")
    execfile("half.py", {"__name__": "other"})
scope()
execfile("half.py")
print half
""", r"""
load 1 load 2 got 1
got 4
[2] [1, 2, 3, 11, 22, 33]
load 0 load 1 load 2 True
[(1, 'a'), (2, None)] [1] [[1, 3], [2, None]] []
(1,) 12 [2, 1, 0] 1
('a', 0) [('a', 0), ('b', 1)] 0
[('a', 'b'), (None, 'c')] [1]
{'b': 2} ['b'] [2, 3] [('b', 2)] ('b', 2) [2]
True True ['b'] 1 ['b']
7 3 2
['abc', 'd', 'e', 1] True []
True False True False
3
[3] False
[3] True
[3] False
3
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
        [sys.executable, "-m", "theano_compat", "main.py", *arguments], cwd=folder,
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
class Own(list):
    def __cmp__(self, other):  # Python 3 calls __lt__ and __eq__
        return 0
    def __unicode__(self):  # Python 3 calls __str__
        return u""
    def __getslice__(self, i, j):  # Python 3 calls __getitem__
        return 0
    def __len__(self):
        return 3
print len(Own())
exec "half = 7 / 2"  # exec reads its text as Python 3
print eval("8 / 2")  # eval reads its text as Python 3
"""
    done = run(tmp_path, environment=warm.environment, main=program)
    assert done.stdout == "3\n4.0\n", done.stderr
    warned = [line.removeprefix("main.py:").split(": UserWarning: ")
              for line in done.stderr.splitlines() if "UserWarning" in line]
    expected = {number: line.partition("  # ")[2]
                for number, line in enumerate(program.splitlines(), 1) if "  # " in line}
    assert [int(number) for number, _ in warned] == list(expected)
    assert all(words in text for words, (_, text) in zip(expected.values(), warned))


def test_an_own_function_called_eval_is_not_pythons(warm, tmp_path):
    program = "def eval(model):\n    return model / 2\nprint eval(7)\n"
    done = run(tmp_path, environment=warm.environment, main=program)
    assert done.stdout == "3\n" and "UserWarning" not in done.stderr


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
print np.floor(a / 2.)
print round(np.float32(2.5)), max(-5, 0), isinstance(True, bool)  # not those of NumPy 2
a.sort()
print a, max(a), (a < 2).tolist(), np.float64(1) > None
x = T.vector()
f = theano.function([x], [T.floor(x), x > 1, T.lt(x, 2), abs(x).max()])
print [value.tolist() for value in f([0.5, 1.5])]
np.random.seed(1)
print np.random.randint(0, 100, 3).tolist()
""")
    assert done.stdout == """\
[2, 2, 'map', b'a']
[1. 0. 1.]
3.0 0 True
[1 2 3] 3 [True, False, False] True
[[0.0, 1.0], [False, True], [True, True], 1.5]
[37, 12, 72]
""", done.stderr


def test_what_is_imported_from_the_future_is_read_as_in_python2(warm, tmp_path):
    """All ways to write these imports work, and words in comments and texts do not count."""
    done = run(
        tmp_path, environment=warm.environment, main='''\
"""A docstring.

    from __future__ import division
"""
from __future__ import with_statement  # no division, no print_function
import both, division, function
print 7 / 2, "from __future__ import division"
''', both="""\
'A docstring.'
from __future__ import (absolute_import,  # print_function comes later
                        division,
                        print_function)
print(7 / 2, "a", end=" ")
for i in xrange(1): print(i)
""", division="""\
from __future__ import absolute_import, \\
    division
print 7 / 2, "b"
""", function="""\
from __future__ import (absolute_import,
    print_function)
from __future__ import with_statement; from __future__ import unicode_literals
print(7 / 2, "c")
""")
    assert done.stdout == "3.5 a 0\n3.5 b\n3 c\n3 from __future__ import division\n", done.stderr


def test_tabs_in_texts_are_kept(warm, tmp_path):
    done = run(tmp_path, environment=warm.environment, main="""\
rows = "1\t2".split("\\t")
if True:
\tprint len(rows), "tab",\t[1]
        print "spaces"
print repr('''
\ta
    \t'''), repr("b\\
\tc")
""")
    assert done.stdout == "2 tab [1]\nspaces\n'\\n\\ta\\n    \\t' 'b\\tc'\n", done.stderr


def test_files_that_a_program_loads_are_translated(warm, tmp_path):
    done = run(tmp_path, environment=warm.environment, main="""
import os, runpy, sys
print runpy.run_path("part.py")["half"],
if sys.version_info < (3, 12):
    import imp
    print imp.load_source("one", "part.py").half, os.path.basename(sys.modules["one"].__file__),
    print imp.load_module("part", *imp.find_module("part", ["."])).items
""", part="half = 7 / 2\nitems = map(str, range(2))\n")
    expected = "3 3 part.py ['0', '1']\n" if sys.version_info < (3, 12) else "3"
    assert done.stdout.strip() == expected.strip() and not done.stderr, done.stderr


@pytest.mark.parametrize("text, expected", [
    ("x = raw_input()", True), ("d.has_key(1)", True), ("import cPickle", True),
    ("reduce(max, x)", True), ("#!/usr/bin/python2\nx = 1", True), ("print 1", True),
    ("import six\nsix.iteritems(d)", False), ("def reduce(f): pass\nreduce(x)", False),
    ("class D(dict):\n    def has_key(self): pass\nd.has_key()", False),
    ("print(f'{unicode}')", False), ("def f(x: int): xrange(x)", False),
    ("def f(long): return long", False), ("x: int = 1\nxrange(x)", False),
    ("def f(x) -> int: xrange(x)", False), ("from six.moves import cPickle", False),
    ("import sys\nif sys.version_info[0] >= 3:\n    import pickle\nelse:\n    import cPickle", False),
    ("#!/usr/bin/env python3\nx = unicode", False), ("#!/usr/bin/env python3\nprint 1", True)])
def test_python2_is_told_from_python3(text, expected):
    assert python2.is_python2(text.encode(), "main.py") is expected


def test_what_cannot_be_told_is_an_error(warm, tmp_path):
    """A text with characters from U+0080 to U+00FF may be bytes or a text of UTF-8."""
    done = run(tmp_path, environment=warm.environment, main="""
for use in (lambda: "\\xff\\xd8".encode("hex"), lambda: open("a", "wb").write("\\xff")):
    try:
        use()
    except UnicodeError, error:
        print "expected ASCII or bytes" in str(error)
print u"\\u0430".encode("hex"), None < object(), {} < {1: 2}
""")
    assert done.stdout == "True\nTrue\n" and "TypeError: '<' not supported" in done.stderr
