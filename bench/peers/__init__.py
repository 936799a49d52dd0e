"""The servers that the benchmarks compare with, each a program of its own."""
