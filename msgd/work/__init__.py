"""The worker runtime: everything around a job that its worker need not know.

================  =========================================================================
``interface``     what a worker is: JobType, Context, outcomes
``functions``     a worker out of one async function: ``@job``
``runner``        deliveries to attempts: claim, perform, save, ack
``attempt``       one slice of one job, step by step
``heartbeat``     the signs of life of all running jobs of a process
``choice``        which delivery is performed next: pure
``network``       the guard that keeps workers out of private networks
================  =========================================================================
"""
