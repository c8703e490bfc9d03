"""Looking into a broken flow: path evidence, a witness on the other end, and when to do either."""
