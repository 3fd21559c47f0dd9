/* In place of NumPy's header of this name, which lost with NumPy 2.1 what Theano needs of it:
   that is in theano_on_numpy2.h. */
