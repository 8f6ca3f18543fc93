"""Tells the outside by webhook. Import `sender` where one is wanted: it loads the HTTP client."""
