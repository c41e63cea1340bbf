"""Reading YAML that people write by hand: plain values, without aliases."""

import yaml
from yaml.composer import ComposerError


class _PlainLoader(yaml.SafeLoader):
    """A loader that knows no aliases: a few nested ones unfold to more values than any memory holds."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise ComposerError(None, None, f"write out what *{event.anchor} stands for", event.start_mark)
        return super().compose_node(parent, index)


def load_yaml(text):
    """Read a YAML document.

    Parameters
    ----------
    text : str

    Returns
    -------
    object
        Of plain types: no code is run.

    Raises
    ------
    ValueError
        If it is no YAML, nests too deeply, or has an alias; the reason in one line.

    Examples
    --------
    >>> load_yaml("{n_seeds: 3, arms: [unet, segnet]}")
    {'n_seeds': 3, 'arms': ['unet', 'segnet']}
    """
    loader = None
    try:
        loader = _PlainLoader(text)
        return loader.get_single_data()
    except RecursionError as error:
        raise ValueError("it nests too deeply") from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    finally:
        if loader is not None:
            loader.dispose()
