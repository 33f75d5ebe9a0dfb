"""What happens behind each door, once its configuration is composed."""
