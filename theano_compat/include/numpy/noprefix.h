/* In place of NumPy's header of this name, removed in NumPy 2.0; Theano needs nothing from it. */
