"""The demonstration's tools and the replies of models that it answers."""
