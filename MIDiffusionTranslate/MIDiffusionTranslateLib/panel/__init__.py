"""The presenters of the module panel and the texts they show."""
