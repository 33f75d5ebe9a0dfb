"""Images with their masks: cropped, predicted, scored and colored."""
