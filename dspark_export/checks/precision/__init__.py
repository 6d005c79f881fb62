"""What a lower precision costs against float32, layer by layer and end to end."""
