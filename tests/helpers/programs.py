"""Tools to run programs in tests in the same way as a user, each in its own process."""

import os
import subprocess
import sys
import textwrap

PRELUDE = """
import vae
import numpy as np, theano, lasagne, theano.tensor as T
"""

#: A training step with matrix products, a random stream and a gradient.
TRAINING_STEP = PRELUDE + """
np.random.seed(1)
x = T.tensor4()
heads = vae.vae_encoder_mlp(x)
q = vae.MultivariateNormalDiag(*lasagne.layers.get_output(heads))
z = q.sample()
l_logits = vae.vae_decoder_mlp(z)
loss = -T.mean(vae.BinaryVector(lasagne.layers.get_output(l_logits)).log_prob(x) - q.log_prob(z))
params = lasagne.layers.get_all_params([*heads, l_logits], trainable=True)
train = theano.function([x], loss, updates=lasagne.updates.sgd(loss, params, 1e-3))
images = np.random.uniform(size=(8, 1, 28, 28)) < 0.2
print([round(float(train(images)), 1) for _ in range(3)])
"""

SMALL = PRELUDE + """
x = T.matrix()
result = theano.function([x], T.dot(T.exp(x), x))(np.eye(2, dtype="float32"))
print(np.round(result.astype(float), 4).ravel().tolist())
"""
SMALL_ANSWER = str([2.7183, 1., 1., 2.7183])


class Session:
    """Runs Python programs with the same home and cache, which no other process uses.

    Parameters
    ----------
    home : pathlib.Path
        An empty folder.
    """

    def __init__(self, home):
        self.cache = home / "cache"
        self.environment = {
            name: value for name, value in os.environ.items()
            if not name.startswith(("THEANO", "PYTHONWARNINGS", "OPENBLAS", "OMP"))}
        self.environment.update(HOME=str(home), XDG_CACHE_HOME=str(self.cache),
                                LOCALAPPDATA=str(self.cache))

    def start(self, program, **environment):
        """Start a program with these environment variables, and return its process."""
        return subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)],
                                env={**self.environment, **environment},
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, program, **environment):
        """Run a program, which must not fail; return its standard output and standard error."""
        process = self.start(program, **environment)
        try:
            out, err = process.communicate(timeout=3000)  # much, as the machine may be busy
        finally:
            process.kill()
        assert process.returncode == 0, err
        return out.strip(), err

    def quietly(self, program, **environment):
        """Run a program, which must not warn either, and return its standard output."""
        out, err = self.run(program, **environment)
        assert err == ""
        return out
