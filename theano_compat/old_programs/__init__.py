"""What programs of Theano's time find when they are run as such."""
