"""What users see of a search: live progress, tables, pictures, TensorBoard, the final comparison."""
