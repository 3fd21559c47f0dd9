/* In place of NumPy's header of this name.  NumPy 2.1 removed from it what Theano needs, which is
   now in theano_on_numpy2.h. */
