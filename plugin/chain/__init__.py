"""Whether results belong together, and to what they were made from: hashes and contents compared, offline."""
