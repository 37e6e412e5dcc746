//! Which certificate to ask for next, and when. Pure: time and dice come in as arguments.
