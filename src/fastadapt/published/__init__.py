"""The published runs as data, each with the number that was published for it: what `fastadapt reproduce` works on."""
