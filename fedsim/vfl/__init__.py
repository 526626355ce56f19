"""The two exchanges of vertical federated learning.

`split`: embeddings up, gradients of the embeddings down; every party updates its own bottom model.
`shared`: parties also send the gradients of their parameters; the hub owns the optimisers and sends models back.
"""
