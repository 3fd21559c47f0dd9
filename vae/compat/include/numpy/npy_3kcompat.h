/* Theano includes this header of NumPy's, which NumPy 2.1 and later do not ship.
   What it needs of it is in theano_on_numpy2.h. */
