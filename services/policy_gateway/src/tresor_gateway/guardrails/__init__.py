"""What texts may pass: pure functions over strings, no socket, no file, no clock of their own.

Stages run on three directions (request, retrieved context, response); each finds something or
nothing, and the policy says what a finding means: allow, flag, mask or block. Whatever goes wrong
in here is an exception, and the caller treats an exception as a refusal.
"""
