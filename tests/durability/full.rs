//! A disk that fills up, and is emptied again.
