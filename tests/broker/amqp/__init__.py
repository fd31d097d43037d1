"""RabbitMQ: the pieces without a socket, the whole against a real node.

Where each defect of txAMQP 0.8.2 (DESIGN §4.1) has its regression test:

==========================================================  ===========================================================
a body of several frames, of which one is UTF-8             ``test_frames``: test_first_frame_of_text_then_bytes
x-death and other arrays, tables and types in headers       ``test_codec``: DecodeTest; ``test_declare``: delivery limit
non-ASCII strings in bodies, names, properties              ``test_codec``: test_short_strings_count_bytes; contract
negative and nested values, booleans                        ``test_codec``: RoundTripTest; contract
an empty body                                               ``test_frames``: test_empty_body; contract
no specification in the wheel                               ``test_methods``: SpecificationTest
client capabilities                                         ``test_protocol``: test_log_in
publisher confirms, returns                                 ``test_publisher``; contract
consumer-cancel                                             ``test_outages``: test_queue_deleted
connection.blocked                                          ``test_outages``: test_blocked
TLS                                                         ``test_connection``: TlsTest
speed                                                       ``bench.broker_amqp``
==========================================================  ===========================================================
"""
