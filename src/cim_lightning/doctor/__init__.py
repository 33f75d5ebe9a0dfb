"""What a training will do, found in seconds: images, parameters, first steps, exact resume."""
