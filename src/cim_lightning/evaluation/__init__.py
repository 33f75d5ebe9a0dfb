"""How good a backbone is: a Backbone in, numbers out."""
