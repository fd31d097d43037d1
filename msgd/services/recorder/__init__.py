"""The recorder: the one writer of the journal, between the event queues and the notifiers (DESIGN §3, "Events").

==============  =======================================================================================
``service``     Recorder: waits for the lease, serves while it has it, hands it back
``lease``       keeps the lease, and says in good time when it can no longer
``recording``   the loop: take a batch, store, publish live, confirm, acknowledge; and what follows trouble
``sorting``     what a delivery is: an event, or nothing one can use: pure
``intake``      deliveries that wait, and which of them make the next batch: pure
``live``        the messages for notifiers and RPC callers that follow from what was stored: pure
``posting``     publishes them
``figures``     what has been done so far, and how far behind it is
``graves``      reads the dead letters
``mark``        notices a broker that was emptied
``rounds``      what is done every few seconds or minutes: revive, trim, purge
``bell``        something to wait for, again and again
==============  =======================================================================================
"""
