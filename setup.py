from pathlib import Path

from setuptools import find_packages, setup

REQUIRES = [
    # The unmodified Theano and Lasagne from PyPI, adapted by theano_compat.
    "Theano==1.0.5",
    "Lasagne==0.1",
    "numpy>=2,<3",
    "scipy",
    "scipy-openblas32",  # BLAS for Theano's compiled code
    "filelock",
    "platformdirs",
    "threadpoolctl",  # keeps NumPy's BLAS on one thread where there is no compiler
    # Data and pictures.
    "matplotlib",
    "pillow",  # small PNGs
    "tqdm",
    "pooch",  # verified downloads of MNIST
    "requests",
    "babel",  # catalogues of translations
]
EXTRAS = {
    "grading": ["ipython", "jinja2", "psutil", "pytest", "xlsxwriter"],
    "dask": ["distributed"],  # grading on many machines
    "nbgrader": ["nbgrader", "jupytext"],  # jupytext: one source for all notebooks
    "compiler": ["ziglang"],
    "python2": ["fissix"],  # old programs in Python 2
}
EXTRAS["tests"] = [
    *EXTRAS["grading"], *EXTRAS["dask"], *EXTRAS["nbgrader"], *EXTRAS["python2"],
    "jupyter", "nbformat", "playwright", "pydot", "pytest-timeout", "pytest-xdist", "uv",
]

setup(
    name="vae-seminar",
    version="1.0.0",
    description="A seminar on variational autoencoders in Theano and Lasagne",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    author="The VAE seminar's authors",
    classifiers=[
        "Framework :: Jupyter",
        "Intended Audience :: Education",
        "Intended Audience :: Science/Research",  # theano_compat: programs of Theano's time
        "Natural Language :: English",
        "Natural Language :: Russian",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 16)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    python_requires=">=3.10",
    packages=find_packages(
        include=["vae", "vae.*", "vae_grading", "vae_grading.*", "theano_compat", "theano_compat.*"]),
    package_data={"vae": ["trained_weights.npz", "locale/*.po"],
                  "theano_compat": ["README.md", "include/*.h", "include/numpy/*.h"],
                  "vae_grading": ["reports/*.html"]},
    py_modules=["utils"],
    entry_points={"console_scripts": ["theano-cache = theano_compat.old_programs.theano_cache:main"]},
    install_requires=REQUIRES,
    extras_require=EXTRAS,
)
