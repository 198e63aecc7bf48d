"""
Empty modules where the client imports packages that play no part in tracking: PyTorch, pandas, Docker and others, gigabytes of
them. The finder comes last, so what is really there wins.
"""
import importlib.machinery
import sys
import types
from unittest.mock import MagicMock

ABSENT = frozenset(
    """
    GPUtil MNN PIL accelerate accimage bitsandbytes datasets deepspeed docker ecies fastapi flash_attn gensim google graphviz grpc
    h5py httpx jax machineid matplotlib mockseries mpi4py mxnet nacl networkx numpy packaging pandas peft pkg_resources ptflops
    pydantic pydantic_settings pytest python qaicrt redis scipy sklearn spacy sqlalchemy statsmodels tenseal tensorflow
    tensorflow_federated toposort torch torchvision transformers tritonclient utils uvicorn wandb wget
    """.split()
)


class Module(types.ModuleType):
    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        if name[0].isupper():
            # Something that can be a base class, a type in brackets, or called.
            members = {
                "__init__": lambda self, *args, **kwargs: None,
                "__class_getitem__": classmethod(lambda cls, item: cls),
            }
            value = type(name, (), members)
        else:
            value = MagicMock(name=f"{self.__name__}.{name}")
        setattr(self, name, value)
        return value


class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return Module(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.append(Finder())
