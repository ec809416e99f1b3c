"""The layout of a beta file in HDF5: its index, where chunks lie, the ranges that hold them."""
