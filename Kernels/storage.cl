// The storage prelude.
