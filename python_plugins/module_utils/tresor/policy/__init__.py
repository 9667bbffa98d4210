"""Policy gates: may what a bundle carries be used on this site?

Each gate is a pure function of parsed inputs and returns verdicts; nothing here opens a network
connection or writes. Only the standard library is needed, for the gates run inside the importer.
"""
