from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent


def requirements():
    """The packages of requirements.txt: what stands there stands only there."""
    lines = (line.partition("  #")[0].strip()
             for line in (here / "requirements.txt").read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith(("#", "-", "."))]


setup(
    name="vae-seminar",
    version="1.0.0",
    description="A seminar on variational autoencoders in Theano and Lasagne",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=find_packages(include=["vae", "vae.*"]),
    package_data={"vae.compat": ["README.md", "include/*.h", "include/numpy/*.h"],
                  "vae.grading": ["*.html"]},
    py_modules=["utils"],
    install_requires=requirements(),
    extras_require={"dask": ["distributed"], "nbgrader": ["nbgrader"], "compiler": ["ziglang"]},
)
