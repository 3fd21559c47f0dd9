/* In place of NumPy's header of this name, gone with NumPy 2.0; Theano uses nothing of it. */
