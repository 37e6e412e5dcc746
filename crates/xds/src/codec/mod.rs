//! Between wire types and the words of `mesh`, both directions, one file a kind.
