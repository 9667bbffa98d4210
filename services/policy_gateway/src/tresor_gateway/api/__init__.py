"""What may be asked: endpoints, parameters and answers in OpenAI's shape."""
