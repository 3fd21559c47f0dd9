from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent


#: What `import vae` and `import utils` need; the seminar's other needs are in requirements.txt.
REQUIREMENTS = ["Theano==1.0.5", "Lasagne==0.1", "numpy>=2,<3", "scipy", "scipy-openblas32",
                "filelock", "platformdirs", "tqdm", "matplotlib", "pooch", "requests"]

setup(
    name="vae-seminar",
    version="1.0.0",
    description="A seminar on variational autoencoders in Theano and Lasagne",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.9",
    packages=find_packages(include=["vae", "vae.*"]),
    package_data={"vae.compat": ["README.md", "include/*.h", "include/numpy/*.h"],
                  "vae.grading": ["*.html"]},
    py_modules=["utils"],
    install_requires=REQUIREMENTS,
    extras_require={"dask": ["distributed"], "nbgrader": ["nbgrader"], "compiler": ["ziglang"]},
)
