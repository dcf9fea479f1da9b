"""What a person looks at in the browser; every figure is the package's own."""
