"""Min-max attacks: one perturbation against the worst of several domains, and what is needed for it. Nothing here does I/O.

Source: Wang, Zhang, Liu, Chen, Xu, Fardad, Li, Adversarial Attack Generation Empowered by Min-Max Optimization, NeurIPS 2021,
arXiv 1906.03563. The released code was not followed where it is wrong: its margin loss lowers the true logit instead of the
margin, and two of its three attacks climb where they should descend.
"""
