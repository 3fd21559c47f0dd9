"""The environment that programs of Theano's time expect."""
