"""One module per command: words in, one library call, one result out."""
