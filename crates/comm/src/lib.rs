//! Collectives: solo and MPI behind one trait, with asynchronous handles.
