"""What a few Lambda functions need beyond the API bundle."""
