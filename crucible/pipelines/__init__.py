"""The model evaluation pipeline: reserve resources, download a model, test it, clean up."""
