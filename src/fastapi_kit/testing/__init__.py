"""For the tests of an app that uses the kit; import each helper from its own module."""
