"""RabbitMQ: the pieces without a socket, the whole against a real node."""
