"""The two pages of the notebooks that compute in the browser, with no kernel."""
