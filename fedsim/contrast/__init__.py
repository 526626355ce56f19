"""The mathematics of robust contrastive learning: losses over views, views, pseudo-labels, attacks within a ball. No I/O.

Source: Fan et al., When Does Contrastive Learning Preserve Adversarial Robustness from Pretraining to Finetuning?, NeurIPS
2021, arXiv 2111.01124 (AdvCL), and the papers that it is compared with.
"""
