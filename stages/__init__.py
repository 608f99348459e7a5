"""One module or package a DVC stage, and the modules that several stages share."""
