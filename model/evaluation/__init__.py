"""How good a model is on patients that it was not trained on: measures, controls, and the report about them."""
