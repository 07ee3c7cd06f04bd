"""Fewer channels in neck and heads: python tools/prune.py CONFIG CHECKPOINT SMALLER_CONFIG OUT.pth."""

import argparse

from evg.errors import needs, run_tool

with needs('train'):
    from evg.config import add_config_arguments, config_from_args, load_config
    from evg.deploy.prune import prune
    from evg.engine.network import UNTRAINED, load_network, save_start


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description='Weights of a network for a config with fewer channels.')
    add_config_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint of CONFIG')
    parser.add_argument('smaller', help='a config that differs in model.neck.channels and head_conv')
    parser.add_argument('out', help='checkpoint to train SMALLER from: --cfg-options load_from=OUT')
    return parser.parse_args()


@run_tool
def main() -> None:
    """Load, prune, write."""
    args = parse_args()
    model, _ = load_network(config_from_args(args), args.checkpoint)
    child, _ = load_network(load_config(args.smaller), UNTRAINED)
    pruned = prune(model, child)
    for cut in pruned.cuts:
        print(f'{cut.layer}: {cut.after} of {cut.before} channels, {100 * cut.norm_kept:.1f} % of the norm')
    before, after = (sum(p.numel() for p in net.parameters()) for net in (model, child))
    save_start(args.out, pruned.state_dict, args.checkpoint)
    print(f'{before:,} parameters became {after:,}: {args.out}')
    print(f'train it: python tools/train.py {args.smaller} --cfg-options load_from={args.out}')


if __name__ == '__main__':
    main()
