"""The modules' way to the importer: they run the checked program and read its JSON."""
