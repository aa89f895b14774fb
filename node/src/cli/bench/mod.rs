//! `bowline bench`: the measurements that `make bench` and other programs' races are made of.

pub mod measure;
